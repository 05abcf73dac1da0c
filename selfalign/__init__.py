"""selfalign: a self-improving, iterative data-generation engine."""

__version__ = "0.1.0"
