"""Resamplers: which judged candidates of a prompt go on to pairing."""
