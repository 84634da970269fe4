"""What a person hands in: axes, presets, vignettes, prompts; read and checked."""
