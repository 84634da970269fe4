"""Diary, summary and the sentences that they are made of."""
