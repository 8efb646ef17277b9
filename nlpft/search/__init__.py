"""Searches over what is kept and what is trained: spaces, studies on disk that several workers share, cheap trials."""
