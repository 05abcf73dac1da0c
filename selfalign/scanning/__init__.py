"""Personal data and secrets in texts, found by rules. Pure code over texts; what it finds it never quotes whole."""
