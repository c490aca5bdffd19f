package a

import "io"

func found(err error) bool {
	return err == io.ErrNoProgress // want `comparing with ==`
}
