// Go's MySQL driver: host, port, user, password, a file of rows. Prints what it sees.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

func show(db *sql.DB, query string, arguments ...interface{}) {
	fmt.Printf("%.60s %v\n", query, arguments)
	rows, err := db.Query(query, arguments...)
	if err != nil {
		fmt.Println(" ", err)
		return
	}
	defer rows.Close()
	for {
		columns, _ := rows.Columns()
		values := make([]sql.NullString, len(columns))
		places := make([]interface{}, len(columns))
		for i := range values {
			places[i] = &values[i]
		}
		for rows.Next() {
			fmt.Println("  row", rows.Scan(places...), values)
		}
		if !rows.NextResultSet() {
			break
		}
	}
	fmt.Println("  end", rows.Err())
}

func execute(db *sql.DB, statement string, arguments ...interface{}) {
	result, err := db.Exec(statement, arguments...)
	if err != nil {
		fmt.Printf("%.60s %v\n", statement, err)
		return
	}
	affected, _ := result.RowsAffected()
	id, _ := result.LastInsertId()
	fmt.Printf("%.60s %d %d\n", statement, affected, id)
}

func main() {
	host, port, user, password, file := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	open := func(user, password, database, more string) *sql.DB {
		dsn := fmt.Sprintf("%s:%s@tcp(%s:%s)/%s?multiStatements=true%s", user, password, host, port, database, more)
		db, err := sql.Open("mysql", dsn)
		if err != nil {
			panic(err)
		}
		return db
	}
	first := open(user, password, "", "")
	first.Exec("DROP DATABASE IF EXISTS go_driver")
	execute(first, "CREATE DATABASE go_driver CHARACTER SET utf8mb4")
	db := open(user, password, "go_driver", "&parseTime=true&maxAllowedPacket=0")
	mysql.RegisterLocalFile(file)

	execute(db, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50), at DATETIME, b LONGBLOB)")
	execute(db, "INSERT INTO t (name, at) VALUES ('Ünï', '2026-01-02 03:04:05'), ('zwei', NULL)")
	execute(db, "INSERT INTO t (name, at) VALUES (?, ?)", "drei", time.Unix(1700000000, 0).UTC())
	show(db, "SELECT id, name, at FROM t ORDER BY id")
	show(db, "SELECT id, name, ? FROM t WHERE id > ? ORDER BY id", "given", 1)
	show(db, "SELECT 1; SELECT 2, 'zwei'; DO 0; SELECT 3 FROM t WHERE id = 0")
	show(db, "SELECT * FROM nowhere WHERE id = ?", 1)
	show(db, "SELECT (SELECT id FROM t WHERE id > ?)", 0)
	execute(db, "LOAD DATA LOCAL INFILE '"+file+"' REPLACE INTO TABLE t (id, name)")
	execute(db, "LOAD DATA LOCAL INFILE '/nowhere/at/all' INTO TABLE t")
	execute(db, "CREATE PROCEDURE p(n INT) BEGIN SELECT n; SELECT n + 1, 'two'; END")
	show(db, "CALL p(?)", 5)

	large := bytes.Repeat([]byte("abc"), 6000000)
	execute(db, "INSERT INTO t (id, b) VALUES (?, ?)", 5000, large)
	var back []byte
	fmt.Println("large", db.QueryRow("SELECT b FROM t WHERE id = ?", 5000).Scan(&back), bytes.Equal(large, back))

	tx, _ := db.Begin()
	result, err := tx.Exec("DELETE FROM t")
	affected, _ := result.RowsAffected()
	fmt.Println("transaction", affected, err, tx.Rollback())
	show(db, "SELECT COUNT(*) FROM t")

	var wait sync.WaitGroup
	sums := make([]int, 20)
	for i := range sums {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			for n := 0; n < 50; n++ {
				var got int
				if err := db.QueryRow("SELECT ? + ?", i, n).Scan(&got); err != nil {
					fmt.Println(err)
				}
				sums[i] += got
			}
		}(i)
	}
	wait.Wait()
	fmt.Println("goroutines", sums)

	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	var slept int
	fmt.Println("cancelled", db.QueryRowContext(ctx, "SELECT SLEEP(10)").Scan(&slept))
	cancel()
	fmt.Println("ping", db.Ping())
	fmt.Println("wrong password", open(user, "wrong", "", "").Ping())
	fmt.Println("unknown user", open("nobody", "x", "", "").Ping())
	fmt.Println("unknown database", open(user, password, "nowhere", "").Ping())
	execute(db, "DROP DATABASE go_driver")
	fmt.Println("end")
}
