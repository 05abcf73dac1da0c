"""Preference items with known answers, to measure and to teach judges."""
