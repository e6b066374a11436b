"""One stream class for each venue beside FinX; `finx_sync.venues.NAME` hands them out under the venue's name."""
