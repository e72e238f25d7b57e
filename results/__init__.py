"""What came out, as plain numbers and words: records, statistics, leaderboard. Imports no other package of ours."""
