"""The lesson: a teacher and a student, one topic, a hidden test at the end."""
