"""Photographs as bytes, pixels and the network's input: sniffed, bounded, decoded, prepared, cached."""
