"""One file or two for each kind of C++ that is written."""
