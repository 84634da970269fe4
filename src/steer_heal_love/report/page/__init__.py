"""The page: one HTML file that holds everything it shows, of one run or of several."""
