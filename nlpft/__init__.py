"""nlpft: from an instruction corpus to an evaluated adapter."""

__version__ = "0.1.0"
