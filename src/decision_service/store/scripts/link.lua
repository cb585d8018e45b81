#!lua
-- Append records to entity logs, each record once.
--
-- KEYS   the logs, all of one partition where the server is a cluster
-- ARGV   1 most records a log keeps · 2 ms after which a log that nothing is added to is forgotten
--        then for each log: header of an empty log · records to append · what the caller holds of the log: its header
--        and the last record held, none of the given records being among those held; or "" · offset of that record, or
--        "". An instant of trimming in the header of an empty log says what is left out on purpose: the stored log is
--        marked as trimmed through it, too
-- REPLY  array, four numbers a log: appended, already there, older than what the log has forgotten, refused because
--        what is stored under the key is no log of this grain (then nothing of that log is touched)
-- COST   6 us for a log that the caller holds, or a short one; else O(bytes of the log), 60 us for a full one; a trim
--        is due once in a quarter of a log
--
-- A record is known by its key and its customer (words 1 and 6): event ids of two customers may be equal. One that
-- reaches back to what was trimmed is not taken, for whether it is among the trimmed nobody can tell any more; windows
-- that reach back so far are incomplete anyway. So a record that is delivered twice, however late, is there once.
--
-- What the caller holds is still the beginning of the log if its last record stands where it stood, behind the same
-- header (store/held_logs.py); then only what was added behind it is searched.
--
-- The life of a log is given a hundredth more than it must have, so that it need not be renewed with every append.
--
-- Only instants and counts become Lua numbers, all far below 2^53 (TRIMMED_NOTHING is a power of two, hence exact).
-- Everything that can fail is asked before the first write of its log; a log of the wrong type stops no other.
local HEADER, RECORD = 64, 64
local INDEXED = 8 -- with more records than this at once the log's keys are indexed instead of searched
local most, kept_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local slack = math.floor(most / 4)
local life_ms = string.format('%.0f', kept_ms + math.floor(kept_ms / 100))
local unpacked, call = struct.unpack, redis.call

local function instant(bytes, at)
  return (unpacked('<i8', bytes, at))
end

local function identity(bytes, at)
  return bytes:sub(at + 8, at + 15) .. bytes:sub(at + 48, at + 55)
end

-- `log` begins with 64 bytes that are not searched, the header or a record that is known to be another.
local function search(log, record)
  if #log == HEADER then
    return false
  end
  local key, customer = record:sub(9, 16), record:sub(49, 56)
  local at = log:find(key, HEADER + 1, true)
  while at do
    if at % RECORD == 9 and log:sub(at + 40, at + 47) == customer then
      return true
    end
    at = log:find(key, at + 1, true)
  end
  return false
end

local function indexed(log)
  local known = {}
  for at = HEADER + 1, #log, RECORD do
    known[identity(log, at)] = true
  end
  return known
end

local function trimmed(log)
  local gone = (#log - HEADER) / RECORD - most
  local through = instant(log, 17)
  for at = HEADER + 1, gone * RECORD + HEADER, RECORD do
    through = math.max(through, instant(log, at))
  end
  local base = instant(log, 9) + gone
  return log:sub(1, 8) .. struct.pack('<i8i8', base, through) .. log:sub(25, HEADER)
    .. log:sub(HEADER + gone * RECORD + 1)
end

-- The header, what is to be searched, and the bytes of the log; or the log is not the one that is held: nil.
local function held(name, known, offset)
  local tail = redis.pcall('GETRANGE', name, offset, -1)
  if type(tail) == 'string' and tail:sub(1, RECORD) == known:sub(HEADER + 1) then
    local head = call('GETRANGE', name, 0, HEADER - 1)
    if head == known:sub(1, HEADER) then
      return head, tail, tonumber(offset) + #tail
    end
  end
end

-- Those of some records that are neither in the log nor too old, how many are there, and how many are too old.
local function unknown(body, records, through)
  local all_known = #records > INDEXED * RECORD
  local known = all_known and indexed(body) or {}
  local fresh, there, old = {}, 0, 0
  for at = 1, #records, RECORD do
    local record = records:sub(at, at + RECORD - 1)
    local id = identity(records, at)
    if known[id] or (not all_known and search(body, record)) then
      there = there + 1
    elseif instant(record, 1) <= through then
      old = old + 1
    else
      known[id] = true
      fresh[#fresh + 1] = record
    end
  end
  return table.concat(fresh), there, old
end

local function append(name, empty, records, known_end, offset)
  local head, body, bytes
  if offset ~= '' then
    head, body, bytes = held(name, known_end, offset)
  end
  local stored = true
  if not head then
    body = redis.pcall('GET', name)
    if type(body) == 'table' then
      return 0, 0, 0, #records / RECORD
    end
    stored = body
    body = body or empty
    head, bytes = body:sub(1, HEADER), #body
  end
  if bytes % RECORD ~= 0 or #records % RECORD ~= 0 or (head ~= empty and (head:sub(1, 8) ~= empty:sub(1, 8)
    or head:sub(25, 32) ~= empty:sub(25, 32))) then
    return 0, 0, 0, math.floor(#records / RECORD)
  end
  local through, left_out = instant(head, 17), instant(empty, 17)
  local added, there, old
  if #records == RECORD then
    local known = search(body, records)
    local is_old = not known and instant(records, 1) <= through
    added, there, old = (known or is_old) and '' or records, known and 1 or 0, is_old and 1 or 0
  else
    added, there, old = unknown(body, records, through)
  end
  local marked = left_out > through
  local appended = #added / RECORD
  if appended == 0 and not marked then
    return 0, there, old, 0
  end
  local crowded = (bytes + #added - HEADER) / RECORD > most + slack
  if crowded or not stored then
    local log = stored and call('GET', name) or empty
    if marked then
      log = log:sub(1, 16) .. struct.pack('<i8', left_out) .. log:sub(25)
    end
    log = log .. added
    call('SET', name, crowded and trimmed(log) or log, 'PX', life_ms)
    return appended, there, old, 0
  end
  if marked then
    call('SETRANGE', name, 16, struct.pack('<i8', left_out))
  end
  if added ~= '' then
    call('APPEND', name, added)
  end
  local left_ms = call('PTTL', name)
  if left_ms < kept_ms or left_ms > tonumber(life_ms) then
    call('PEXPIRE', name, life_ms)
  end
  return appended, there, old, 0
end

local told = {}
for i, name in ipairs(KEYS) do
  local at = 4 * i - 1
  local appended, there, old, refused = append(name, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  told[at - 2], told[at - 1], told[at], told[at + 1] = appended, there, old, refused
end
return told
