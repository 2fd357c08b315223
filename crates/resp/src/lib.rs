//! RESP bytes to frames and back.
