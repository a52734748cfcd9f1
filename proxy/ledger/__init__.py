"""The billing record: a journal on disk beside the requests, and the SQL ledger that it is carried into.

Workers write the journal and import nothing else from here; the supervisor carries it over; commands read the ledger.
"""
