-- A script that looks at each query and returns nothing.

local count = 0

function read_query(packet)
  if packet:byte() == proxy.COM_QUERY and packet:find("^SELECT", 2) then
    count = count + 1
  end
end
