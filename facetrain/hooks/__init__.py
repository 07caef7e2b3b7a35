"""What PyInstaller is told, so that a frozen program finds weights, families, formats and commands."""
