"""Parts that several methods share: attention, Fourier features, diffusion, image encoders, mesh extraction."""
