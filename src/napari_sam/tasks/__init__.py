"""Operations on many objects: batches of prompts, replay, and search by text."""
