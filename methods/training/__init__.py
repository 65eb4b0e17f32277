"""The one training loop: optimisers, averaging, checkpoints, and batches drawn from prepared shards."""
