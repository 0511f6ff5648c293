"""Piano transcription: notes, velocities and pedals of a recording, by scored intervals (Yan and Duan 2024).

Adapted from transkun 2.0.1, copyright (c) 2021 Yujia Yan, MIT licence: see LICENSE beside this file.
"""
