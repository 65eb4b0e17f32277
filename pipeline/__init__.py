"""The frame around the rooms: the configuration of a run, and the names of everything it makes. No torch here."""
