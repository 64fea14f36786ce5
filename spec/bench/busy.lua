-- A script that needs the processor for a while for each query.

function read_query()
  local sum = 0
  for number = 1, 100000 do
    sum = sum + number % 7
  end
  assert(sum > 0)
end
