"""OpenVINO and the cores: `core` is the one that all share, `embedder` a compiled network, `threads` the cores."""
