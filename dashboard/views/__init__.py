"""What each page says: a frame to words, badges and rows. Pure; `dashboard.pages` draws them.

A state is never told by colour alone: every badge has an icon and a word.
"""
