"""Reads the configuration of a LiteLLM proxy, and writes ours: what has a counterpart, and what has none."""
