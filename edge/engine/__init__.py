"""OpenVINO, faiss and the cores: `core`, `embedder`, `kernels` (what faiss multiplies with), `threads`."""
