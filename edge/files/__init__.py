"""Bytes on disk: atomic writes, pictures, hashed JSON schemas, and the places where a station keeps them."""
