"""What counts as a word, in scripts with spaces between words and in scripts without."""

from __future__ import annotations

# Scripts that put no space between words: a word is a character there, with its marks. Words proper
# would take a dictionary for each language.
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
# A character with the marks that belong to it (vowel signs, accents, joiners).
MARKS = r"[\p{M}\u200c\u200d]*"
LETTERS = rf"{UNSPACED}{MARKS}|(?:(?!{UNSPACED})\p{{L}}{MARKS})+"
LETTERS_AND_DIGITS = rf"{UNSPACED}{MARKS}|(?:(?!{UNSPACED})[\p{{L}}\p{{N}}_]{MARKS})+"
