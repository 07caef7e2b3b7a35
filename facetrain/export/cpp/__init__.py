"""C++ sources: how they are compiled and checked, and the kinds there are."""
