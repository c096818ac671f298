"""The outer loop: training, validation, checkpoints, and what turns rows into features afterwards."""
