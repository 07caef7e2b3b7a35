"""How results and progress are said in words."""
