"""What a person reads of a study: its front as page, picture, table and note, gate rates, networks in words."""
