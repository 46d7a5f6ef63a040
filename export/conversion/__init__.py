"""Networks become IRs: torch is imported in `backbones`, `weights` and `convert`, and nowhere else."""
