"""Training data that repeats benchmarks, found by n-grams of words. Pure code over texts; no benchmark ships with it."""
