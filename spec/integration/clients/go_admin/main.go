// Go's MySQL driver at the admin interface: host, port, user, password. Prints what it sees.
package main

import (
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/go-sql-driver/mysql"
)

func code(err error) uint16 {
	var failure *mysql.MySQLError
	if errors.As(err, &failure) {
		return failure.Number
	}
	fmt.Println(err)
	return 0
}

func open(password string) *sql.DB {
	a := os.Args
	db, err := sql.Open("mysql", a[3]+":"+password+"@tcp("+a[1]+":"+a[2]+")/proxy")
	if err != nil {
		panic(err)
	}
	return db
}

func main() {
	db := open(os.Args[4])
	var count, first int
	var text string
	if err := db.QueryRow("SELECT COUNT(*), MIN(backend_ndx), 'ü' FROM backends").Scan(&count, &first, &text); err != nil {
		panic(err)
	}
	fmt.Println(count, first, text)
	if err := db.QueryRow("SELECT state FROM backends WHERE backend_ndx = ?", 1).Scan(&text); err != nil {
		panic(err)
	}
	fmt.Println(text)
	_, err := db.Exec("SELECT * FROM nowhere")
	fmt.Println(code(err))
	fmt.Println(code(open("wrong").Ping()))
}
