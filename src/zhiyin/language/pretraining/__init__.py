"""Teaching a language model the words of a catalogue, before anything is asked of it."""
