"""The harness as pytest's plugin: options, hooks and what lives as long as a run."""
