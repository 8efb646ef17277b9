"""From files to batches: read -> convert -> tokenize -> store on disk, then pack -> collate -> load. No torch before collate."""
