"""From rows to tables: pure functions of rows and of published.yaml, redrawn in seconds, without torch."""
