-- Whether a list names an account, and its record.
-- KEYS: accounts, the list. ARGV: the member.
return {redis.call('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0, redis.call('HGET', KEYS[1], ARGV[1])}
