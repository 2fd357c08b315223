"""What benches/compare.py and benches/push.py are made of. Python's standard library only."""
