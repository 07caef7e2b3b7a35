"""What a run keeps in its folder, and how it begins and ends."""
