//! Protobuf configuration turned into a validated model.
