"""Where images come from: files, folders, lists, addresses, videos, cameras; and how moving ones are written."""
