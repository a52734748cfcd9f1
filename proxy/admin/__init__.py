"""What an operator does to a running gateway: accounts, keys, and the documents that describe them.

The command line and the admin API call the same operations here, so both refuse the same things in the same words.
Nothing here reads a clock, makes randomness, opens a store or prints.
"""
