std = "lua51"
max_line_length = 120
files["spec"] = { std = "lua51+busted" }
files["examples"] = { std = "lua51" }
