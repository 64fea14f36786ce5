-- A sysbench script: results of about 130 kB, 1,000 rows of 130 bytes on the wire.
-- luacheck: globals prepare thread_init thread_done event, read globals sysbench

local ROWS, ROW_LENGTH = 1000, 125 -- and 5 bytes of header and length

local connection

local function connect()
  return sysbench.sql.driver():connect()
end

function prepare()
  local con = connect()
  con:query("CREATE TABLE IF NOT EXISTS large_result (id INT PRIMARY KEY, text VARCHAR(200)) CHARACTER SET latin1")
  con:query("DELETE FROM large_result")
  con:bulk_insert_init("INSERT INTO large_result VALUES ")
  for id = 1, ROWS do
    con:bulk_insert_next(("(%d, REPEAT('x', %d))"):format(id, ROW_LENGTH))
  end
  con:bulk_insert_done()
end

function thread_init()
  connection = connect()
end

function thread_done()
  connection:disconnect()
end

function event()
  connection:query("SELECT text FROM large_result")
end
