"""What a run healed, written for other programs: adapters, models, GGUF files and vectors.

`student` reads what a run handed over, `exporting` writes one kind of it into a folder, `folder`
makes that folder appear whole or not at all, `card` describes it, `loading` reads it back.
"""
