-- Reads a log, from a position that the reader knows, or else from its beginning.
--
-- KEYS  1 the stream of the log
-- ARGV  1 the lifetime of the log, in milliseconds
--       2 its lifetime as long as it has had no message
--       3 the epoch, and 4 the id of the newest message that the reader has, or two empty texts
--       5 the epoch, and 6 the check of a new log, or two empty texts if none is to be created
--
-- Returns entries. The first is a position: the reader's own if the log has it, or else the one before all retained
-- messages. Returns null if there is no such log.
local stream = KEYS[1]
local lifetime, short_lifetime, epoch, id, new_epoch, new_check = unpack(ARGV)

local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if not first then
  if new_epoch == '' then
    return false
  end
  redis.call('XADD', stream, '0-' .. new_check, 'e', new_epoch, 't', '0', 'n', '', 'm', '')
end
local tip = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
redis.call('PEXPIRE', stream, string.match(tip[1], '^0%-') and short_lifetime or lifetime)
if first and first[2][2] == epoch and redis.call('XRANGE', stream, id, id)[1] then
  return redis.call('XRANGE', stream, id, '+')
end
return redis.call('XRANGE', stream, '-', '+')
