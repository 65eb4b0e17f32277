"""MAR-3D: progressive masked autoregressive generation of 3D shapes (Chen et al., CVPR 2025, arXiv 2503.20519)."""
