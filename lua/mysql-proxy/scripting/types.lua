---@meta
-- For editors: what a script of the proxy finds in `proxy` and gets in its hooks. Nothing loads this file; name this
-- folder to the Lua language server, and it completes and checks scripts.

---@alias Verdict
---| 1 # proxy.PROXY_SEND_QUERY: send proxy.queries instead of the command
---| 2 # proxy.PROXY_SEND_RESULT: send proxy.response to the client
---| 4 # proxy.PROXY_IGNORE_RESULT: the client does not get this result

---@class ProxyAddress
---@field type integer 2 IPv4, 10 IPv6, 1 unix socket
---@field name string "127.0.0.1:4040", "[::1]:4040", or the path
---@field address string
---@field port integer|nil

---@class ProxySide one side of the connection
---@field default_db string the schema: of the login, of a COM_INIT_DB, or of a USE that was sent as a statement
---@field username string|nil
---@field scrambled_password string|nil
---@field auth_plugin_name string|nil
---@field mysqld_version integer|nil 5.0.45 is 50045
---@field thread_id integer|nil
---@field scramble_buffer string|nil
---@field src ProxyAddress
---@field dst ProxyAddress
---@field address string

---@class ProxyConnection
---@field client ProxySide
---@field server ProxySide|nil nil while no server is attached
---@field backend_ndx integer writable: which backend; 0 gives the connection to the pool
---@field connection_close boolean writable: close after the current result; commands behind it are dropped
---@field thread_id integer|nil
---@field default_db string|nil
---@field mysqld_version integer|nil
---@field server_version integer|nil the same

---@class ProxyPoolUser
---@field cur_idle_connections integer

---@class ProxyPool
---@field max_idle_connections integer writable
---@field min_idle_connections integer writable
---@field users table<string, ProxyPoolUser>

---@class ProxyBackend
---@field address string as given on the command line
---@field dst ProxyAddress
---@field connected_clients integer
---@field idling_connections integer
---@field state integer writable: proxy.BACKEND_STATE_*
---@field type integer proxy.BACKEND_TYPE_*
---@field uuid string|nil writable
---@field pool ProxyPool

---@class ProxyQueries what is sent if read_query returns PROXY_SEND_QUERY; # is its length. A statement has the query
---  attributes of the client's.
---@field append fun(self: ProxyQueries, id: integer, packet: string, options?: { resultset_is_needed: boolean })
---@field prepend fun(self: ProxyQueries, id: integer, packet: string, options?: { resultset_is_needed: boolean })
---@field reset fun(self: ProxyQueries)
---@field len fun(self: ProxyQueries): integer

---@class ProxyResponse
---@field type integer proxy.MYSQLD_PACKET_OK, _ERR or _RAW
---@field errmsg string|nil
---@field errcode integer|string|nil default 1105
---@field sqlstate string|nil default "07000"
---@field resultset { fields: { name: string, type: integer }[], rows: any[][], charset?: integer }|nil 45: utf8mb4
---@field affected_rows integer|nil
---@field insert_id integer|nil
---@field packets string[]|nil of a RAW response: payloads; results in the classic form get the client's, else as it is

---@class InjectionField
---@field name string
---@field type integer proxy.MYSQL_TYPE_*
---@field org_name string
---@field table string
---@field org_table string
---@field db string

---@class InjectionResultset
---@field fields InjectionField[]|nil
---@field rows (fun(): string[]|nil)|nil for row in resultset.rows do
---@field row_count integer
---@field bytes integer
---@field raw string payload of the first packet
---@field flags { in_trans: boolean, auto_commit: boolean, no_good_index_used: boolean, no_index_used: boolean }
---@field affected_rows integer|nil
---@field insert_id integer|nil
---@field warning_count integer
---@field query_status integer|nil 0 or proxy.MYSQLD_PACKET_ERR

---@class Injection what read_query_result gets
---@field id integer as given to append
---@field type integer the same
---@field query string the packet that was sent
---@field query_time integer microseconds to the first packet of the answer
---@field response_time integer microseconds to its last
---@field resultset InjectionResultset as long as the hook runs; its fields and tables of rows can be kept

---@class ProxySpawnOptions
---@field limit integer bytes that the program may say; default 1 MiB

---@class ProxyAsync functions that wait, without holding up other sessions
---@field await fun(start: fun(resume: fun(...)): fun()|nil): any
---@field sleep fun(ms: number)
---@field resolve fun(host: string): string[]|nil, string|nil
---@field spawn fun(program: string, args?: string[], input?: string, options?: ProxySpawnOptions): table|nil, string|nil
---@field query fun(where: integer|string, sql: string, login?: table): table|nil, string|nil

---@class ProxyTable
---@field connection ProxyConnection
---@field global { backends: ProxyBackend[], config: table, [any]: any } shared by all connections
---@field backends ProxyBackend[]
---@field servers ProxyBackend[]
---@field queries ProxyQueries
---@field response ProxyResponse
---@field async ProxyAsync
---@field log fun(level: "error"|"critical"|"warning"|"message"|"info"|"debug", ...)
---@field tokenize fun(sql: string): table
---@field PROXY_VERSION integer
---@field PROXY_SEND_QUERY 1
---@field PROXY_SEND_RESULT 2
---@field PROXY_IGNORE_RESULT 4
---@field MYSQLD_PACKET_OK 0
---@field MYSQLD_PACKET_RAW 250
---@field MYSQLD_PACKET_NULL 251
---@field MYSQLD_PACKET_EOF 254
---@field MYSQLD_PACKET_ERR 255
---@field BACKEND_STATE_UNKNOWN 0
---@field BACKEND_STATE_UP 1
---@field BACKEND_STATE_DOWN 2
---@field BACKEND_TYPE_UNKNOWN 0
---@field BACKEND_TYPE_RW 1
---@field BACKEND_TYPE_RO 2
---@field COM_SLEEP 0
---@field COM_QUIT 1
---@field COM_INIT_DB 2
---@field COM_QUERY 3
---@field COM_FIELD_LIST 4
---@field COM_CREATE_DB 5
---@field COM_DROP_DB 6
---@field COM_REFRESH 7
---@field COM_SHUTDOWN 8
---@field COM_STATISTICS 9
---@field COM_PROCESS_INFO 10
---@field COM_CONNECT 11
---@field COM_PROCESS_KILL 12
---@field COM_DEBUG 13
---@field COM_PING 14
---@field COM_TIME 15
---@field COM_DELAYED_INSERT 16
---@field COM_CHANGE_USER 17
---@field COM_BINLOG_DUMP 18
---@field COM_TABLE_DUMP 19
---@field COM_CONNECT_OUT 20
---@field COM_REGISTER_SLAVE 21
---@field COM_STMT_PREPARE 22
---@field COM_STMT_EXECUTE 23
---@field COM_STMT_SEND_LONG_DATA 24
---@field COM_STMT_CLOSE 25
---@field COM_STMT_RESET 26
---@field COM_SET_OPTION 27
---@field COM_STMT_FETCH 28
---@field COM_DAEMON 29
---@field MYSQL_TYPE_DECIMAL 0
---@field MYSQL_TYPE_TINY 1
---@field MYSQL_TYPE_SHORT 2
---@field MYSQL_TYPE_LONG 3
---@field MYSQL_TYPE_FLOAT 4
---@field MYSQL_TYPE_DOUBLE 5
---@field MYSQL_TYPE_NULL 6
---@field MYSQL_TYPE_TIMESTAMP 7
---@field MYSQL_TYPE_LONGLONG 8
---@field MYSQL_TYPE_INT24 9
---@field MYSQL_TYPE_DATE 10
---@field MYSQL_TYPE_TIME 11
---@field MYSQL_TYPE_DATETIME 12
---@field MYSQL_TYPE_YEAR 13
---@field MYSQL_TYPE_NEWDATE 14
---@field MYSQL_TYPE_VARCHAR 15
---@field MYSQL_TYPE_BIT 16
---@field MYSQL_TYPE_NEWDECIMAL 246
---@field MYSQL_TYPE_ENUM 247
---@field MYSQL_TYPE_SET 248
---@field MYSQL_TYPE_TINY_BLOB 249
---@field MYSQL_TYPE_MEDIUM_BLOB 250
---@field MYSQL_TYPE_LONG_BLOB 251
---@field MYSQL_TYPE_BLOB 252
---@field MYSQL_TYPE_VAR_STRING 253
---@field MYSQL_TYPE_STRING 254
---@field MYSQL_TYPE_GEOMETRY 255
proxy = {}

---@return Verdict|nil
function connect_server() end

---@param auth { mysqld_version: integer, thread_id: integer, scramble: string, server_addr: string, client_addr: string }
---@return Verdict|nil
function read_handshake(auth) end

---@param auth { username: string, password: string, default_db: string }
---@return Verdict|nil
function read_auth(auth) end

---@param auth { packet: string }
---@return Verdict|nil
function read_auth_result(auth) end

---@param packet string the command byte and what belongs to it
---@return Verdict|nil
function read_query(packet) end

---@param inj Injection
---@return Verdict|nil
function read_query_result(inj) end

function disconnect_client() end
